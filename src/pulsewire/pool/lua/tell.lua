-- Tell somebody who waits what has become of a job, apart from any change of it.
-- KEYS  1 replies  STREAM  of the node that waits
-- ARGV  1 request   2 outcome   3 words
-- Returns  {"told"}
-- @include "moves"
tell(KEYS[1], ARGV[1], ARGV[2], ARGV[3])
return { "told" }
