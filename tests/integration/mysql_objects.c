// SPDX-License-Identifier: Apache-2.0
// What the tests of the MySQL family put into a source, and how they compare two servers.
#include "tests/integration/mysql_objects.h"

#include "common/attributes.h"

// One of everything that a copy could lose.
const char MYSQL_OBJECTS[] =
    "CREATE DATABASE shop CHARACTER SET utf8mb4;\n"
    "CREATE DATABASE `odd``name` CHARACTER SET latin1;\n"
    "CREATE TABLE shop.log (id BIGINT AUTO_INCREMENT PRIMARY KEY, text VARCHAR(200)) "
    "ENGINE=InnoDB;\n"
    "CREATE TABLE shop.types (id INT PRIMARY KEY, f FLOAT, d DOUBLE, n DECIMAL(30,10), b BIT(13), "
    "bl BLOB, t TEXT"
    " CHARACTER SET latin1, u VARCHAR(50) CHARACTER SET utf16, e ENUM('a','ü'), s SET('x','y'), j "
    "JSON, g GEOMETRY,"
    " ts TIMESTAMP(6) NULL, dt DATETIME(3), dd DATE, tt TIME(2), y YEAR, g1 INT AS (id * 2) "
    "VIRTUAL, g2 INT AS (id * 3)"
    " STORED, bin VARBINARY(20), c CHAR(5)) ENGINE=InnoDB;\n"
    "INSERT INTO shop.types (id, f, d, n, b, bl, t, u, e, s, j, g, ts, dt, dd, tt, y, bin, c) "
    "VALUES"
    " (0, 1.1e-10, 1.7976931348623157e308, -12345678901234567890.0123456789, b'1010101010101', "
    "x'00ff27225c0a', 'äöü''\\\\',"
    " '漢字', 'ü', 'x,y', '{\"k\": [1, \"ü\"]}', POINT(1.5, 2.5), '2020-03-29 02:30:00.123456', "
    "'2021-01-01 00:00:00.5',"
    " '2000-02-29', '-100:00:00.25', 2024, x'0001', 'ab'), (1, NULL, NULL, NULL, NULL, NULL, NULL, "
    "NULL, NULL, NULL, NULL,"
    " NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL), (2, 0, -0.5, 0, b'0', '', '', '', 'a', '', "
    "'[]', NULL,"
    " '1970-01-01 00:00:01', NULL, NULL, NULL, 1999, '', '');\n"
    "CREATE TABLE shop.parent (id INT PRIMARY KEY) ENGINE=InnoDB;\n"
    "CREATE TABLE shop.child (id INT PRIMARY KEY, parent INT, FOREIGN KEY (parent) REFERENCES "
    "shop.parent(id)) ENGINE=InnoDB;\n"
    "INSERT INTO shop.parent VALUES (1), (2);\n"
    "INSERT INTO shop.child VALUES (1, 1), (2, 2);\n"
    "CREATE TABLE shop.parts (id INT, v VARCHAR(20), PRIMARY KEY (id)) ENGINE=InnoDB PARTITION BY "
    "RANGE (id)"
    " (PARTITION p0 VALUES LESS THAN (100), PARTITION p1 VALUES LESS THAN MAXVALUE);\n"
    "INSERT INTO shop.parts VALUES (1, 'a'), (1000, 'b');\n"
    "CREATE TABLE shop.packed (id INT AUTO_INCREMENT PRIMARY KEY, v TEXT) ENGINE=InnoDB "
    "ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE=8;\n"
    "INSERT INTO shop.packed (v) SELECT REPEAT(UUID(), 20) FROM information_schema.COLUMNS LIMIT "
    "500;\n"
    "CREATE TABLE `odd``name`.`ta-ble` (`co``l` INT PRIMARY KEY) ENGINE=InnoDB COMMENT='it''s ü';\n"
    "INSERT INTO `odd``name`.`ta-ble` VALUES (7);\n"
    "CREATE FUNCTION shop.twice(a INT) RETURNS INT DETERMINISTIC RETURN a * 2;\n"
    "CREATE VIEW shop.v1 AS SELECT id, shop.twice(id) AS two FROM shop.parts;\n"
    "CREATE VIEW shop.a_view AS SELECT * FROM shop.v1;\n"
    "CREATE TABLE shop.audit (id INT AUTO_INCREMENT PRIMARY KEY, note VARCHAR(50)) ENGINE=InnoDB;\n"
    "CREATE TRIGGER shop.after_parts AFTER INSERT ON shop.parts FOR EACH ROW INSERT INTO "
    "shop.audit (note) VALUES ('one');\n"
    "CREATE TRIGGER shop.after_parts2 AFTER INSERT ON shop.parts FOR EACH ROW INSERT INTO "
    "shop.audit (note) VALUES ('two');\n"
    "CREATE EVENT shop.nightly ON SCHEDULE EVERY 1 DAY STARTS '2035-01-01 00:00:00' DO INSERT INTO "
    "shop.log (text) VALUES ('x');\n"
    "CREATE PROCEDURE shop.add_log(IN v VARCHAR(20)) INSERT INTO shop.log (text) VALUES (v);\n"
    "CREATE ROLE reader;\n"
    "GRANT SELECT ON shop.* TO reader;\n"
    "CREATE USER app@'127.0.0.1' IDENTIFIED BY 'app-secret';\n"
    "GRANT SELECT, EXECUTE ON *.* TO app@'127.0.0.1';\n"
    "GRANT reader TO app@'127.0.0.1';\n";

const char MARIADB_OBJECTS[] =
    "CREATE SEQUENCE shop.numbers START WITH 100 INCREMENT BY 5;\n"
    "SELECT NEXTVAL(shop.numbers);\n"
    "CREATE TABLE shop.history (id INT PRIMARY KEY, v INT) ENGINE=InnoDB WITH SYSTEM VERSIONING;\n"
    "INSERT INTO shop.history VALUES (1, 1);\n"
    "UPDATE shop.history SET v = 2;\n"
    "CREATE TABLE shop.plain (id INT PRIMARY KEY) ENGINE=MyISAM;\n"
    "INSERT INTO shop.plain VALUES (5);\n"
    "CREATE TABLE shop.aria (id INT PRIMARY KEY) ENGINE=Aria PAGE_CHECKSUM=1;\n"
    "INSERT INTO shop.aria VALUES (6);\n"
    "CREATE TABLE shop.page_packed (id INT PRIMARY KEY, v TEXT) ENGINE=InnoDB PAGE_COMPRESSED=1;\n"
    "INSERT INTO shop.page_packed SELECT id, REPEAT('z', 3000) FROM shop.packed;\n"
    "CREATE TABLE shop.gone (id INT) ENGINE=InnoDB;\n"
    "CREATE VIEW shop.broken AS SELECT * FROM shop.gone;\n"
    "DROP TABLE shop.gone;\n";

// What two servers must answer alike.
const char *const MYSQL_QUESTIONS[] = {
    "SELECT TABLE_SCHEMA, TABLE_NAME, TABLE_TYPE, ENGINE, ROW_FORMAT, TABLE_COLLATION, "
    "CREATE_OPTIONS FROM"
    " information_schema.TABLES WHERE TABLE_SCHEMA IN ('shop', 'odd`name') AND TABLE_NAME <> "
    "'broken' ORDER BY 1, 2",
    "SELECT TABLE_SCHEMA, TABLE_NAME, COLUMN_NAME, COLUMN_TYPE, COLUMN_DEFAULT, IS_NULLABLE, EXTRA "
    "FROM"
    " information_schema.COLUMNS WHERE TABLE_SCHEMA IN ('shop', 'odd`name') AND TABLE_NAME <> "
    "'broken' ORDER BY 1, 2, 3",
    "SELECT id, f, d, n, b + 0, HEX(bl), HEX(t), HEX(u), HEX(e), s, HEX(j), HEX(ST_AsWKB(g)), "
    "UNIX_TIMESTAMP(ts), dt, dd, tt, y,"
    " g1, g2, HEX(bin), c FROM shop.types ORDER BY id",
    "SELECT TRIGGER_SCHEMA, TRIGGER_NAME, ACTION_ORDER, ACTION_STATEMENT, DEFINER, SQL_MODE, "
    "CHARACTER_SET_CLIENT FROM"
    " information_schema.TRIGGERS WHERE TRIGGER_SCHEMA <> 'sys' ORDER BY 1, 2",
    "SELECT ROUTINE_SCHEMA, ROUTINE_NAME, ROUTINE_TYPE, ROUTINE_DEFINITION, DEFINER, SQL_MODE FROM"
    " information_schema.ROUTINES WHERE ROUTINE_SCHEMA = 'shop' ORDER BY 1, 2",
    "SELECT EVENT_SCHEMA, EVENT_NAME, EVENT_DEFINITION, DEFINER, STARTS FROM "
    "information_schema.EVENTS ORDER BY 1, 2",
    "SELECT TABLE_SCHEMA, TABLE_NAME, VIEW_DEFINITION, DEFINER FROM information_schema.VIEWS WHERE "
    "TABLE_SCHEMA = 'shop' AND"
    " TABLE_NAME <> 'broken' ORDER BY 1, 2",
    "SELECT * FROM shop.a_view ORDER BY 1",
    "SELECT * FROM shop.child ORDER BY 1",
    "SELECT * FROM shop.audit ORDER BY 1",
    "SELECT COUNT(*), MAX(id), SUM(CRC32(v)) FROM shop.packed",
    "SELECT * FROM `odd``name`.`ta-ble`",
    "SELECT COUNT(*), MAX(id), SUM(CRC32(text)) FROM shop.log",
    "SELECT SCHEMA_NAME, DEFAULT_CHARACTER_SET_NAME, DEFAULT_COLLATION_NAME FROM "
    "information_schema.SCHEMATA ORDER BY 1",
#if TEST_IS_MYSQL
    "SELECT user, host, plugin, HEX(authentication_string), account_locked FROM mysql.user ORDER "
    "BY 1, 2",
    "SELECT * FROM mysql.db ORDER BY 1, 2, 3",
    "SELECT * FROM mysql.role_edges ORDER BY 1, 2, 3",
    "SELECT * FROM mysql.global_grants ORDER BY 1, 2, 3",
#else
    "SELECT * FROM mysql.global_priv ORDER BY 1, 2",
    "SELECT * FROM mysql.db ORDER BY 1, 2, 3",
    "SELECT * FROM mysql.roles_mapping ORDER BY 1, 2, 3",
    "SELECT * FROM mysql.tables_priv ORDER BY 1, 2, 3",
    "SELECT * FROM mysql.proxies_priv WHERE User <> 'root' ORDER BY 1, 2, 3",
    "SELECT db, name, type, body, definer, created, modified, sql_mode FROM mysql.proc WHERE db = "
    "'shop' ORDER BY 1, 2, 3",
    "SELECT id, v, UNIX_TIMESTAMP(row_start), UNIX_TIMESTAMP(row_end) FROM shop.history FOR "
    "SYSTEM_TIME ALL ORDER BY 3",
    "SELECT * FROM shop.plain",
    "SELECT * FROM shop.aria",
    "SELECT next_not_cached_value, increment FROM shop.numbers",
    "SELECT COUNT(*), SUM(CRC32(v)) FROM shop.page_packed",
#endif
};

const size_t MYSQL_QUESTION_COUNT = ARRAY_COUNT(MYSQL_QUESTIONS);
