-- Rows for the awkward schema, and a table with a column of every kind of value.
insert into "Mixed Case" ("select", parent, mail, feel, amount, code) values
    ('a;''b', null, 'A@Example.com', 'it''s ok', 5, 'q'),
    (E'tab\t, new\nline, back\\slash "quoted" \\.', 100, null, 'sad', 2, 'r'),
    ('', 100, '', 'happy', 1, null),
    ('NULL', null, 'ünï ☃', 'happy', 99, 'q');
insert into "Weird Schema".t values (1), (2), (2);
insert into cyc_a values (1, null);
insert into cyc_b values (1, 1);
update cyc_a set b = 1;
insert into aaa_child values (1), (2), (3);
insert into part values (1, '2024-05-06'), (2, '1999-01-01'), (3, '2030-01-01');
insert into inh_parent values (1);
insert into inh_child values (2, 3);
insert into unl (j) values ('{"b": [1, 2.50, null], "a": "ü"}'), ('{}');
insert into self_unique values (1, null), (2, 1), (3, 2);

create table kinds (
    n numeric, f float8, r float4, m money, b bytea, t timestamptz, z timetz, d date, i interval,
    u uuid, j json, a integer[][], p pair, s span, e mood[], v tsvector, bits varbit,
    ip inet, g point, l pg_lsn, c "char", ch char(5), o regclass, w path
);
insert into kinds values
    (
        'NaN', 'Infinity', 1.1, -3.5, '\x00ff', '0044-03-15 12:00+00 BC', '23:59:60+05:30', '-infinity',
        '1 year -2 days 00:00:00.000001', '00000000-0000-0000-0000-000000000000', '{"a" : 1,  "a":2}',
        '[0:1][2:3]={{1,null},{3,4}}', '(1,"x,""y""")', '[1.5,2.5)', '{sad,happy}',
        'a:1A b:2', b'1011', '10.0.0.1/8', '(0.1,-0)', '16/B374D848', 'x', 'ab', 'kinds', '[(0,0),(1,1)]'
    ),
    (
        1e40, '-0', 'NaN', 0, '', 'infinity', '00:00:00+00', '4713-01-01 BC',
        '-178000000 years', 'ffffffff-ffff-ffff-ffff-ffffffffffff', 'null',
        '{}', '(,)', 'empty', '{NULL,sad}', '', b'', '::1', '(1e-300,1e300)', '0/0', '', '',
        '"Weird Schema".t', '((1,2))'
    );
insert into kinds (n) values (0.1000);
