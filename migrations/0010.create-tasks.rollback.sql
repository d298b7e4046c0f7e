-- data-loss: every task
drop table tasks;
