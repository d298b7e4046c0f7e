drop index tasks_user_id_due_date_id_idx;

drop index tasks_pending_idx;

drop index tasks_user_id_completed_priority_rank_id_idx;
