-- Fragment: values that are lists (spec/pulse.md 1.4): a JSON array of strings, or legacy text with commas.
-- KEYS      those of the script that includes it
-- ARGV      those of the script that includes it
-- Returns   read_list(stored) -> items; nil for JSON that is no array of strings
local function read_list(stored)
  if not stored then
    return {}
  end
  local is_json, list = pcall(cjson.decode, stored)
  if is_json and type(list) == "table" then
    if string.find(stored, "^%s*{") then
      return nil
    end
    local count = 0
    for _, item in pairs(list) do
      if type(item) ~= "string" then
        return nil
      end
      count = count + 1
    end
    return count == #list and list or nil
  end
  local parts = {}
  for part in string.gmatch(stored, "[^,]+") do
    parts[#parts + 1] = part
  end
  return parts
end
