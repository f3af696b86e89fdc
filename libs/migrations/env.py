"""Alembic's entry: runs a service's revisions on the connection that libs.database hands over."""

from alembic import context

context.configure(connection=context.config.attributes["connection"], transactional_ddl=False)
context.run_migrations()
