-- data-loss: every account
drop table "user";
