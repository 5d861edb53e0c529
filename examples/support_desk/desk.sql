-- The orders of this example; make_desk.py makes desk.db of it. No order is paid back twice: its number is the key.
create table orders (id integer primary key, customer text not null, item text not null, cents integer not null);
create table refund (order_id integer primary key references orders, cents integer not null, ticket integer not null);
insert into orders values
  (101, 'ann', 'kettle', 3900),
  (102, 'ann', 'clock', 1800),
  (103, 'bob', 'rug', 12000),
  (104, 'cid', 'lamp', 2500),
  (105, 'dora', 'chair', 7500),
  (106, 'emil', 'clock', 1800);
