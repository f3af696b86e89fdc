import sys

from libs.process import main, no_dumps
from services.router.app import app
from services.router.config import RouterSettings

if __name__ == "__main__":
    no_dumps()
    sys.exit(main(RouterSettings, app))
