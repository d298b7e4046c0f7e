-- data-loss: every search row, until the text of its task is written again
drop trigger tasks_update_task_search on tasks;

drop trigger tasks_insert_task_search on tasks;

drop function set_task_search();

drop table task_search;
