"""SQL functions by what they do: data for `judge`.

Owns the lists. A function on none of them is not trusted: a list grows only with a function that is known, in every
dialect judged here, to depend on nothing but its arguments.
"""

from __future__ import annotations


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# sqlglot's own classes: what it parses a known function to, whatever the dialect calls it.
PURE_TYPES = _words(
    """
    And Or Xor Case If Cast TryCast Coalesce Nullif Greatest Least Exists
    Count Sum Avg Min Max GroupConcat ArrayAgg Stddev StddevPop StddevSamp Variance VariancePop CovarPop CovarSamp Corr
    LogicalAnd LogicalOr BitwiseAndAgg BitwiseOrAgg BitwiseXorAgg AnyValue PercentileCont PercentileDisc Mode Grouping
    RowNumber Rank DenseRank PercentRank CumeDist Ntile Lag Lead FirstValue LastValue NthValue
    Abs Ceil Floor Round Trunc Sign Sqrt Cbrt Exp Ln Log Pow Pi Sin Cos Tan Cot Asin Acos Atan Atan2 Sinh Cosh Tanh
    Asinh Acosh Atanh Degrees Radians Factorial WidthBucket
    Lower Upper Initcap Length BitLength ByteLength Trim Pad Left Right Repeat Replace Reverse Substring SubstringIndex
    Concat ConcatWs Overlay Translate StrPosition SplitPart Split StartsWith EndsWith Contains Ascii Chr Unicode Space
    Elt Format Soundex Hex LowerHex Unhex MD5 MD5Digest SHA SHA1Digest SHA2 SHA2Digest ToBase64 FromBase64 Encode Decode
    Collate ConvertToCharset RegexpLike RegexpILike RegexpReplace RegexpExtract RegexpCount RegexpInstr RegexpSubstr
    RegexpSplit Levenshtein MatchAgainst Typeof ToNumber ToChar
    Date Time Datetime Timestamp TsOrDsToDate TsOrDsToTime TsOrDsToTimestamp TsOrDsToDatetime TimeToStr StrToTime
    StrToDate StrToUnix TimeToUnix UnixToTime DateAdd DateSub DateDiff TsOrDsAdd TsOrDsDiff DateTrunc TimestampTrunc
    DateBin TimestampAdd TimestampSub TimestampDiff TimeAdd TimeSub TimeDiff DateFromParts TimeFromParts
    TimestampFromParts MakeInterval LastDay Extract Year Quarter Month Week WeekOfYear Day DayOfMonth DayOfWeek
    DayOfYear Dayname Monthname Hour Minute Second ToDays JustifyDays JustifyHours JustifyInterval
    JSONExtract JSONExtractScalar JSONBExtract JSONBExtractScalar JSONObject JSONArray JSONArrayAgg JSONObjectAgg
    JSONBObjectAgg JSONBContains JSONBContainsTopKey JSONBContainsAnyTopKeys JSONBContainsAllTopKeys JSONBPathExists
    JSONBDeleteAtPath JSONBExists JSONExists JSONArrayContains JSONKeys JSONType JSONSet JSONRemove
    JSONArrayAppend JSONArrayInsert JSONStripNulls JSONCast ParseJSON
    Array ArrayAppend ArrayConcat ArrayContains ArrayContainedBy ArrayContainsAll ArrayOverlaps ArrayAny ArrayAll
    ArraySize ArrayPosition ArrayPrepend ArrayRemove ArrayToString StringToArray Unnest Explode
    GenerateSeries ExplodingGenerateSeries
    """
)

# Time functions that read the clock when they are given no argument, or 'now' as one.
CLOCK_TYPES = _words(
    "Date Time Datetime Timestamp TimeToStr StrToTime TsOrDsToDate TsOrDsToTime TsOrDsToTimestamp TsOrDsToDatetime"
)

# Functions that sqlglot leaves as they are written.
PURE_NAMES = _words(
    """
    total printf format instr ltrim rtrim quote likely unlikely likelihood zeroblob iif octet_length substr
    group_concat json jsonb json_array json_array_length json_each json_tree json_group_array json_group_object
    json_insert json_object json_patch json_pretty json_quote json_remove json_replace json_set json_type json_valid
    jsonb_each json_extract snippet highlight bm25 matchinfo offsets date time datetime julianday strftime unixepoch
    timediff
    row to_tsvector to_tsquery plainto_tsquery phraseto_tsquery websearch_to_tsquery ts_rank ts_rank_cd ts_headline
    to_json to_jsonb row_to_json array_to_json json_build_object jsonb_build_object json_build_array jsonb_build_array
    jsonb_array_elements json_array_elements jsonb_array_elements_text json_array_elements_text jsonb_array_length
    jsonb_each_text jsonb_object_keys json_object_keys jsonb_path_query jsonb_path_exists jsonb_typeof json_typeof
    array_length array_position array_upper array_lower cardinality regexp_matches regexp_match btrim char_length
    character_length quote_literal quote_ident similarity word_similarity
    jsonb_agg jsonb_set jsonb_insert jsonb_pretty jsonb_strip_nulls json_strip_nulls jsonb_extract_path
    jsonb_extract_path_text jsonb_to_record jsonb_to_recordset json_to_record json_to_recordset jsonb_path_query_array
    jsonb_path_query_first jsonb_path_match make_date generate_subscripts pg_typeof pg_size_pretty quote_nullable
    regexp_split_to_table regexp_split_to_array string_to_table isfinite array_fill array_ndims array_dims array_replace
    array_positions num_nulls num_nonnulls every regr_slope regr_intercept regr_r2 regr_count regr_avgx regr_avgy
    convert_from convert_to parse_ident setweight numnode int4range int8range numrange daterange tsrange tstzrange
    isempty lower_inc upper_inc lower_inf upper_inf scale min_scale gcd lcm
    obj_description col_description format_type to_regclass pg_get_constraintdef pg_get_indexdef pg_get_viewdef
    field find_in_set strcmp json_contains json_length json_search json_unquote json_value json_overlaps
    period_diff maketime makedate sec_to_time time_to_sec from_days crc32 bin oct inet_aton inet_ntoa
    """
)

CLOCK_NAMES = _words("date time datetime julianday strftime unixepoch timediff")

# Read-only, and different at each call.
VOLATILE_TYPES = _words(
    """
    Rand Randn Uuid CurrentTimestamp CurrentDate CurrentTime CurrentDatetime CurrentTimestampLTZ Localtime
    Localtimestamp UtcDate UtcTime UtcTimestamp Systimestamp CurrentUser SessionUser CurrentRole CurrentDatabase
    CurrentSchema CurrentSchemas CurrentCatalog CurrentVersion CurrentTransaction CurrentTimezone
    """
)
VOLATILE_NAMES = _words(
    """
    age random randomblob changes total_changes last_insert_rowid sqlite_version
    clock_timestamp statement_timestamp transaction_timestamp timeofday uuid_generate_v1 uuid_generate_v4
    gen_random_uuid uuidv4 uuidv7 pg_backend_pid version inet_client_addr inet_server_addr
    sysdate uuid_short unix_timestamp connection_id found_rows row_count rand user
    """
)

# DuckDB alone is trusted with these.
DUCKDB_NAMES = _words(
    """
    array_cosine_similarity array_cosine_distance array_cross_product array_distance array_inner_product
    array_negative_inner_product array_value list_value list_contains list_distinct list_extract list_has_all
    list_has_any list_slice list_sort list_sum list_avg list_min list_max list_unique list_zip flatten range
    list_cosine_similarity list_distance list_inner_product struct_pack struct_extract map_keys map_values map_extract
    damerau_levenshtein hamming jaccard jaro_similarity jaro_winkler_similarity strip_accents regexp_full_match
    string_split_regex epoch epoch_ms epoch_us isfinite isnan isinf median arg_max arg_min histogram
    """
)

# These classes of sqlglot make one value out of one row: no aggregate, and nothing that makes rows.
SCALAR_TYPES = _words(
    """
    And Or Xor Case If Cast Coalesce Nullif Abs Ceil Floor Round Sign Sqrt Lower Upper Length Trim Left Right Replace
    Substring Concat ConcatWs StrPosition StartsWith EndsWith Contains JSONExtract JSONExtractScalar
    JSONBExtract JSONBExtractScalar Hex Typeof
    """
)
