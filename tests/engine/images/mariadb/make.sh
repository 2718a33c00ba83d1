#!/bin/bash
# The source of the backups that the tests restore: one server, loaded, asked for checksums, and backed up by its own
# tools. `/seed/chinook.sql` is loaded where it is there.
set -euo pipefail
out=/out
mkdir -p "$out"
MARIADB_ROOT_PASSWORD=in-staging entrypoint.sh mariadbd --skip-networking --innodb-flush-log-at-trx-commit=0 --innodb-doublewrite=0 >/tmp/log 2>&1 &
server=$!
export MYSQL_PWD=in-staging
until mariadb -e 'select 1' >/dev/null 2>&1; do
    kill -0 "$server" || { cat /tmp/log >&2; exit 1; }
    sleep 0.1
done

if [ -s /seed/chinook.sql ]; then mariadb --default-character-set=utf8mb4 </seed/chinook.sql; fi

mariadb --delimiter='//' <<'SQL'
create database mini character set utf8mb4//
use mini//
create table paper (
    id int unsigned not null auto_increment primary key,
    title varchar(80) not null,
    kept longblob,
    placed datetime not null,
    unique key (title)
)//
create table line (
    id int not null auto_increment primary key,
    paper int unsigned null,
    said varchar(40) character set latin1 not null,
    key (paper),
    constraint line_paper foreign key (paper) references paper (id)
)//
create table old (id int primary key, said text) engine=MyISAM//
create sequence ticket start with 1000//
create table used (id bigint not null default nextval(ticket) primary key, said varchar(20))//
insert into paper (title, kept, placed)
    select concat('Über ', seq), concat(unhex('00ff00275c0a0d1a22'), repeat(char(seq % 256 using binary), 50)),
    '2024-03-01 12:00:00' + interval seq minute from seq_1_to_3000//
insert into line (paper, said) select if(seq % 10 = 0, null, 1 + seq % 3000), concat('line ', seq) from seq_1_to_6000//
insert into old select seq, concat('it''s old ', seq) from seq_1_to_100//
insert into used (said) select 'x' from seq_1_to_20//
create view latest as select max(placed) as placed from paper//
create trigger lower before insert on line for each row begin set new.said = lower(new.said); end//
create procedure papers() begin select count(*) from paper; end//
create event clean on schedule every 1 second starts '2024-01-01 00:00:00' do begin delete from line; end//
SQL

# Without locks: mariadb-dump would not lock the sequence that a locked table takes its numbers from.
mini="--single-transaction --skip-add-locks --routines --triggers --events --hex-blob"
mariadb-dump $mini mini >$out/mini.sql
mariadb-dump $mini --databases mini >$out/named.sql
mariadb-dump --single-transaction --skip-add-locks --routines --triggers --events --all-databases --flush-privileges >$out/all.sql
if [ -s /seed/chinook.sql ]; then mariadb-dump --single-transaction Chinook >$out/chinook.sql; fi
mariadb-backup --backup --user=root --password=in-staging --stream=xbstream --target-dir=/tmp/small >$out/small.xb 2>/tmp/said ||
    { cat /tmp/said >&2; exit 1; }
mkdir $out/prepared
mbstream -x -C $out/prepared <$out/small.xb
mariadb-backup --prepare --target-dir=$out/prepared 2>/tmp/said || { cat /tmp/said >&2; exit 1; }

mariadb <<'SQL'
create database shop character set utf8mb4;
use shop;
create table customer (id int not null auto_increment primary key, name varchar(60) not null, unique key (name));
insert into customer (name) select concat('Kundin ', seq) from seq_1_to_5000;
create table sale (
    id bigint not null auto_increment primary key,
    customer int not null,
    price decimal(10, 2) not null,
    placed datetime not null,
    note varbinary(24),
    key (customer),
    constraint sale_customer foreign key (customer) references customer (id)
);
insert into sale (customer, price, placed, note)
    select 1 + seq % 5000, seq / 100, '2024-01-01' + interval seq second, concat(unhex('00'), seq) from seq_1_to_1000000;
SQL
mariadb-dump --single-transaction shop >$out/shop.sql
mariadb-backup --backup --user=root --password=in-staging --target-dir=$out/full 2>/tmp/said || { cat /tmp/said >&2; exit 1; }

# One line for each database: every row of every table is in it.
for database in mini shop Chinook; do
    tables=$(mariadb -N -B -e "select group_concat('\`', table_schema, '\`.\`', table_name, '\`' order by table_name separator ', ') from \
        information_schema.tables where table_schema = '$database' and table_type = 'BASE TABLE'")
    if [ "$tables" != NULL ]; then
        echo "checksum table $tables extended" >$out/$database.query
        mariadb -N -B -e "checksum table $tables extended" | tr '\t\n' '= ' >$out/$database.sums
    fi
done
kill -TERM "$server"
wait "$server"
chmod -R a+rX $out
