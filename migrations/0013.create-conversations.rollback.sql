-- data-loss: every conversation
drop table conversations;
