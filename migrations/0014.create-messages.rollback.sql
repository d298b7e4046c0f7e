-- data-loss: every message
drop table messages;

drop function touch_conversation();
