"""Another team's small project, which has only the tools in common with this one."""

from __future__ import annotations

import shutil
from pathlib import Path

from scripts.settings import ROOT

SHOP = {
    "pyproject.toml": """
[tool.schema]
migrations = "db/changes"
snapshot = "db/structure.sql"
queries = "db/queries.sql"
roles = "db/roles.sql"
statistics = "db/statistics.json"
mirrors = "shop_models:metadata"
corpus = ["db/sent.sql"]
tenant_column = "shop_id"
context_function = "enter_shop"
application_role = "shop_app"
local_database = "shop"
local_owner = "shop_owner"
""",
    "db/roles.sql": """
do $$ begin
    if not exists (select from pg_roles where rolname = 'shop_app') then
        create role shop_app nologin;
    end if;
end $$;
""",
    "db/changes/0001.create-orders.sql": """
create table orders (
    shop_id bigint not null,
    id bigint not null generated always as identity,
    note text,
    constraint orders_pkey primary key (shop_id, id)
);
grant select, insert on orders to shop_app;
create function enter_shop(shop bigint) returns text language sql
return set_config('shop.id', shop::text, true);
""",
    "db/changes/0001.create-orders.rollback.sql": "drop table orders; drop function enter_shop;\n",
    "db/sent.sql": """
-- name: newest orders
-- reads: limit
-- indexes: orders_pkey
select * from orders where shop_id = %(shop_id)s order by id desc limit 20;

-- name: orders with a note
-- parameters: {"note": "x"}
-- reads: limit
select * from orders where shop_id = %(shop_id)s and note = %(note)s
""",
    "db/statistics.json": """
{"counted": "orders", "tables": {"orders": {"rows": 1000000, "pages": 10000, "columns": {
    "shop_id": {"width": 8, "distinct": -0.001, "heavy": [10, 0.01]},
    "id": {"width": 8, "distinct": -1},
    "note": {"width": 20, "distinct": -0.5}
}}}}
""",
    "shop_models.py": """
from sqlalchemy import BigInteger, Column, MetaData, Table, Text
metadata = MetaData()
Table(
    "orders", metadata,
    Column("shop_id", BigInteger, primary_key=True),
    Column("id", BigInteger, primary_key=True),
    Column("note", Text),
)
""",
}


def make_shop(folder: Path) -> Path:
    """Write the other team's checkout into a folder that is not there yet; return it."""
    ignored = shutil.ignore_patterns("__pycache__")
    for copied in ("scripts", "sql/monitor"):
        shutil.copytree(ROOT / copied, folder / copied, ignore=ignored)
    for name, text in SHOP.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder
