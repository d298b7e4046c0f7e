drop function schema_version();
