import sys

from libs.process import main
from services.execution.app import app
from services.execution.config import ExecutionSettings

if __name__ == "__main__":
    sys.exit(main(ExecutionSettings, app))
