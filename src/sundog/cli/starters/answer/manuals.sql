create table manual (product text primary key, text text not null);
insert into manual values
  ('kettle', 'The kettle holds 1.7 litres. Boil water only, never milk. To remove lime, boil one part of vinegar with two parts of water, and rinse.'),
  ('toaster', 'Pull out the tray below to empty the crumbs. Press the snowflake to thaw bread. Never reach inside while it is plugged in.');
