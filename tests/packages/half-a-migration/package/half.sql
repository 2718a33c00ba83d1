create table half (id int);
create index on nothing (id);
