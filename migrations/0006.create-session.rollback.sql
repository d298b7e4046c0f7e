-- data-loss: every session; all users have to sign in again
drop table session;
