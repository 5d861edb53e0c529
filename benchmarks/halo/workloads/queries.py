"""The queries of TPC-H that Halo names, cut to the parts that the prompts use."""

from __future__ import annotations

Q1 = (
    "select l_returnflag as flag, l_linestatus as status, count(*) as num_lines,"
    " cast(sum(l_extendedprice) as bigint) as price from lineitem where l_shipdate < :since"
    " group by l_returnflag, l_linestatus order by flag, status"
)
Q2 = (
    "select s.s_name as supplier, p.p_partkey as part, cast(ps.ps_supplycost as bigint) as cost from part p"
    " join partsupp ps on ps.ps_partkey = p.p_partkey join supplier s on s.s_suppkey = ps.ps_suppkey"
    " join nation n on n.n_nationkey = s.s_nationkey join region r on r.r_regionkey = n.n_regionkey"
    " where p.p_size = :size and r.r_name = :region order by ps.ps_supplycost, s.s_name, p.p_partkey limit 3"
)
Q3 = (
    "select o.o_orderkey as num, cast(sum(l.l_extendedprice * (1 - l.l_discount)) as bigint) as revenue"
    " from customer c join orders o on o.o_custkey = c.c_custkey join lineitem l on l.l_orderkey = o.o_orderkey"
    " where c.c_mktsegment = :segment and o.o_orderdate < :since and l.l_shipdate > :since"
    " group by o.o_orderkey order by revenue desc, num limit 3"
)
Q5 = (
    "select n.n_name as nation, count(*) as num_orders, cast(sum(o.o_totalprice) as bigint) as price from region r"
    " join nation n on n.n_regionkey = r.r_regionkey join customer c on c.c_nationkey = n.n_nationkey"
    " join orders o on o.o_custkey = c.c_custkey where r.r_name = :region and o.o_orderdate >= :since"
    " and o.o_orderdate < :until group by n.n_name order by price desc, nation"
)
Q6 = (
    "select cast(sum(l_extendedprice * l_discount) as bigint) as revenue from lineitem"
    " where l_shipdate >= :since and l_shipdate < :until and l_discount >= 0.05 and l_quantity < :size"
)
Q9 = (
    "select n.n_name as nation, cast(sum(ps.ps_availqty * ps.ps_supplycost) as bigint) as worth from part p"
    " join partsupp ps on ps.ps_partkey = p.p_partkey join supplier s on s.s_suppkey = ps.ps_suppkey"
    " join nation n on n.n_nationkey = s.s_nationkey where p.p_size = :size"
    " group by n.n_name order by worth desc, nation limit 4"
)
Q15 = (
    "select l_suppkey as supplier, cast(sum(l_extendedprice * (1 - l_discount)) as bigint) as revenue from lineitem"
    " where l_shipdate >= :since and l_shipdate < :until group by l_suppkey order by revenue desc, supplier limit 2"
)
