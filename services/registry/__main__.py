import sys

from libs.process import main
from services.registry.app import app
from services.registry.config import RegistrySettings

if __name__ == "__main__":
    sys.exit(main(RegistrySettings, app))
