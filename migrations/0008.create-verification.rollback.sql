-- data-loss: every reset link and mail confirmation that is still open
drop table verification;
