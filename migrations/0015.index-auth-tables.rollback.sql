drop index verification_expires_at_idx;

drop index verification_identifier_created_at_idx;

drop index account_user_id_idx;

drop index session_user_id_expires_at_idx;
