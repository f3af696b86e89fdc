import sys

from libs.process import main
from services.secrets.app import app
from services.secrets.config import SecretsSettings

if __name__ == "__main__":
    sys.exit(main(SecretsSettings, app))
