-- data-loss: every signing key; tokens that are out are refused, and a new key is made
drop table jwks;
