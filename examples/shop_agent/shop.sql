-- The shop of this example; shop.sqlite was made of it: sqlite3 shop.sqlite < shop.sql
create table product (name text primary key, euros integer not null, in_stock integer not null, delivery_days integer not null);
insert into product values
  ('kettle', 39, 12, 2),
  ('lamp', 25, 0, 14),
  ('rug', 120, 3, 5),
  ('chair', 75, 8, 3),
  ('clock', 18, 40, 1);
