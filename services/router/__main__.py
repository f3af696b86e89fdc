import sys

from libs.process import main
from services.router.app import app
from services.router.config import RouterSettings

if __name__ == "__main__":
    sys.exit(main(RouterSettings, app))
