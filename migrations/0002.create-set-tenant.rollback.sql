drop function set_tenant(text);
