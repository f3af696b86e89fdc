import sys

from libs.process import main
from services.secrets import hygiene
from services.secrets.app import app
from services.secrets.config import SecretsSettings

if __name__ == "__main__":
    hygiene.no_dumps()
    sys.exit(main(SecretsSettings, app))
