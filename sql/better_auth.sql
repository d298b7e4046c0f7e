-- What Better Auth sends with the options that tests/node has: e-mail and password, JWT, bearer. The
-- texts are its own, with a name for each parameter; tests/package/test_better_auth_statements.py
-- runs every flow and fails where it sends another. How they are meant to be executed is ours.
-- scripts/README.md describes the form.

-- name: better-auth user by email
-- role: todo_auth
-- parameters: {"email": "x"}
-- reads: key
-- indexes: user_email_key
select "primary".* from (select * from "user" where "user"."email" = %(email)s) as "primary"

-- name: better-auth user by id
-- role: todo_auth
-- parameters: {"id": "x"}
-- reads: key
-- indexes: user_pkey
select "primary".* from (select * from "user" where "user"."id" = %(id)s) as "primary"

-- name: better-auth user by id, one
-- role: todo_auth
-- parameters: {"id": "x", "limit": 1}
-- reads: key
-- indexes: user_pkey
select "primary".* from (select * from "user" where "user"."id" = %(id)s limit %(limit)s) as "primary"

-- name: better-auth insert user
-- role: todo_auth
-- parameters: {"name": "x", "email": "x", "emailVerified": false, "createdAt": "2026-05-01T12:00:00Z", "updatedAt": "2026-05-01T12:00:00Z", "id": "x"}
-- reads: nothing
insert into "user" ("name", "email", "emailVerified", "createdAt", "updatedAt", "id") values (%(name)s, %(email)s, %(emailVerified)s, %(createdAt)s, %(updatedAt)s, %(id)s) returning *

-- name: better-auth update user
-- role: todo_auth
-- parameters: {"name": "x", "updatedAt": "2026-05-01T12:00:00Z", "id": "x"}
-- reads: key
-- indexes: user_pkey
update "user" set "name" = %(name)s, "updatedAt" = %(updatedAt)s where "user"."id" = %(id)s returning *

-- name: better-auth delete user
-- role: todo_auth
-- parameters: {"id": "x"}
-- reads: key
-- indexes: user_pkey
delete from "user" where "user"."id" = %(id)s

-- name: better-auth accounts of a user
-- role: todo_auth
-- parameters: {"userId": "x", "limit": 100}
-- reads: range
-- indexes: account_user_id_idx
select "primary".* from (select * from "account" where "account"."userId" = %(userId)s limit %(limit)s) as "primary"

-- name: better-auth account of a user by provider
-- role: todo_auth
-- parameters: {"userId": "x", "providerId": "x", "accountId": "x"}
-- reads: range
select "primary".* from (select * from "account" where ("account"."userId" = %(userId)s and "account"."providerId" = %(providerId)s and "account"."accountId" = %(accountId)s)) as "primary"

-- name: better-auth insert account
-- role: todo_auth
-- parameters: {"accountId": "x", "providerId": "x", "userId": "x", "password": "x", "createdAt": "2026-05-01T12:00:00Z", "updatedAt": "2026-05-01T12:00:00Z", "id": "x"}
-- reads: nothing
insert into "account" ("accountId", "providerId", "userId", "password", "createdAt", "updatedAt", "id") values (%(accountId)s, %(providerId)s, %(userId)s, %(password)s, %(createdAt)s, %(updatedAt)s, %(id)s) returning *

-- name: better-auth update account by provider
-- role: todo_auth
-- parameters: {"password": "x", "updatedAt": "2026-05-01T12:00:00Z", "userId": "x", "providerId": "x", "accountId": "x"}
-- reads: range
update "account" set "password" = %(password)s, "updatedAt" = %(updatedAt)s where ("account"."userId" = %(userId)s and "account"."providerId" = %(providerId)s and "account"."accountId" = %(accountId)s)

-- name: better-auth update account
-- role: todo_auth
-- parameters: {"password": "x", "updatedAt": "2026-05-01T12:00:00Z", "id": "x"}
-- reads: key
-- indexes: account_pkey
update "account" set "password" = %(password)s, "updatedAt" = %(updatedAt)s where "account"."id" = %(id)s returning *

-- name: better-auth delete accounts of a user
-- role: todo_auth
-- parameters: {"userId": "x"}
-- reads: range
-- indexes: account_user_id_idx
delete from "account" where "account"."userId" = %(userId)s

-- name: better-auth session by token
-- role: todo_auth
-- parameters: {"token": "x"}
-- reads: key
-- indexes: session_token_key
select "primary".* from (select * from "session" where "session"."token" = %(token)s) as "primary"

-- name: better-auth session by token, one
-- role: todo_auth
-- parameters: {"token": "x", "limit": 100}
-- reads: key
-- indexes: session_token_key
select "primary".* from (select * from "session" where "session"."token" = %(token)s limit %(limit)s) as "primary"

-- name: better-auth sessions of a user
-- role: todo_auth
-- parameters: {"userId": "x", "limit": 100}
-- reads: range
-- indexes: session_user_id_expires_at_idx
select "primary".* from (select * from "session" where "session"."userId" = %(userId)s limit %(limit)s) as "primary"

-- name: better-auth live sessions of a user
-- role: todo_auth
-- parameters: {"userId": "x", "now": "2024-01-15T12:00:00Z", "limit": 100}
-- reads: range
-- indexes: session_user_id_expires_at_idx
select "primary".* from (select * from "session" where ("session"."userId" = %(userId)s and "session"."expiresAt" > %(now)s) limit %(limit)s) as "primary"

-- name: better-auth insert session
-- role: todo_auth
-- parameters: {"expiresAt": "2026-05-01T12:00:00Z", "token": "x", "createdAt": "2026-05-01T12:00:00Z", "updatedAt": "2026-05-01T12:00:00Z", "ipAddress": "x", "userAgent": "x", "userId": "x", "id": "x"}
-- reads: nothing
insert into "session" ("expiresAt", "token", "createdAt", "updatedAt", "ipAddress", "userAgent", "userId", "id") values (%(expiresAt)s, %(token)s, %(createdAt)s, %(updatedAt)s, %(ipAddress)s, %(userAgent)s, %(userId)s, %(id)s) returning *

-- name: better-auth delete session
-- role: todo_auth
-- parameters: {"token": "x"}
-- reads: key
-- indexes: session_token_key
delete from "session" where "session"."token" = %(token)s

-- name: better-auth delete sessions of a user
-- role: todo_auth
-- parameters: {"userId": "x"}
-- reads: range
-- indexes: session_user_id_expires_at_idx
delete from "session" where "session"."userId" = %(userId)s

-- name: better-auth newest verification
-- role: todo_auth
-- parameters: {"identifier": "x", "limit": 100}
-- reads: limit
-- indexes: verification_identifier_created_at_idx
select "primary".* from (select * from "verification" where "verification"."identifier" = %(identifier)s order by "createdAt" desc limit %(limit)s) as "primary" order by "createdAt" desc

-- name: better-auth expired verifications
-- role: todo_auth
-- parameters: {"now": "2024-01-15T12:00:00Z", "limit": 100}
-- reads: range
-- indexes: verification_expires_at_idx
select "primary".* from (select * from "verification" where "verification"."expiresAt" < %(now)s limit %(limit)s) as "primary"

-- name: better-auth insert verification
-- role: todo_auth
-- parameters: {"identifier": "x", "value": "x", "expiresAt": "2026-05-01T12:00:00Z", "createdAt": "2026-05-01T12:00:00Z", "updatedAt": "2026-05-01T12:00:00Z", "id": "x"}
-- reads: nothing
insert into "verification" ("identifier", "value", "expiresAt", "createdAt", "updatedAt", "id") values (%(identifier)s, %(value)s, %(expiresAt)s, %(createdAt)s, %(updatedAt)s, %(id)s) returning *

-- name: better-auth delete expired verifications
-- role: todo_auth
-- parameters: {"now": "2024-01-15T12:00:00Z"}
-- reads: range
-- indexes: verification_expires_at_idx
delete from "verification" where "verification"."expiresAt" < %(now)s

-- name: better-auth delete older verifications
-- role: todo_auth
-- parameters: {"identifier": "x", "id": "x", "createdAt": "2026-05-01T12:00:00Z"}
-- reads: range
-- indexes: verification_identifier_created_at_idx
delete from "verification" where ("verification"."identifier" = %(identifier)s and "verification"."id" <> %(id)s and "verification"."createdAt" <= %(createdAt)s)

-- name: better-auth delete verification
-- role: todo_auth
-- parameters: {"id": "x", "limit": 100, "same_id": "x"}
-- reads: key
-- indexes: verification_pkey
delete from "verification" where "verification"."id" in (select "verification"."id" from "verification" where "verification"."id" = %(id)s limit %(limit)s) and "verification"."id" = %(same_id)s returning *

-- name: better-auth keys
-- role: todo_auth
-- parameters: {"limit": 100}
-- reads: table
select "primary".* from (select * from "jwks" limit %(limit)s) as "primary"

-- name: better-auth insert key
-- role: todo_auth
-- parameters: {"publicKey": "x", "privateKey": "x", "createdAt": "2026-05-01T12:00:00Z", "alg": "x", "crv": "x", "id": "x"}
-- reads: nothing
insert into "jwks" ("publicKey", "privateKey", "createdAt", "alg", "crv", "id") values (%(publicKey)s, %(privateKey)s, %(createdAt)s, %(alg)s, %(crv)s, %(id)s) returning *
