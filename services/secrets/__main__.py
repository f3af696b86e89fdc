import sys

from libs.process import main, no_dumps
from services.secrets.app import app
from services.secrets.config import SecretsSettings

if __name__ == "__main__":
    no_dumps()
    sys.exit(main(SecretsSettings, app))
