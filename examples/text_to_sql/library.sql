-- The library of this example; make_library.py makes library.db of it and fills in the loans.
create table book (id integer primary key, title text not null, author text not null, year integer not null);
create table member (id integer primary key, name text not null, town text not null);
create table loan (book_id integer not null references book, member_id integer not null references member, month text not null, days integer not null);
insert into book values
  (1, 'The Salt Road', 'Ada Brandt', 1998), (2, 'Winter Bees', 'Ada Brandt', 2004), (3, 'A Small Harbour', 'Jon Vesely', 2011),
  (4, 'Nine Bridges', 'Mira Okafor', 2016), (5, 'The Glass Orchard', 'Mira Okafor', 2019), (6, 'Letters North', 'Jon Vesely', 1987);
insert into member values
  (1, 'Rosa', 'Elm'), (2, 'Tariq', 'Elm'), (3, 'Ines', 'Port'), (4, 'Olaf', 'Port'), (5, 'Wen', 'Hill');
