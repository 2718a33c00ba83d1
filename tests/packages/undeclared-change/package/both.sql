create table declared (id int);
alter table orders add column note text;
