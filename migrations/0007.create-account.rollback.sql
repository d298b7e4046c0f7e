-- data-loss: every password hash and every linked provider
drop table account;
