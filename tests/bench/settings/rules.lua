-- each request asks for another one of a hundred paths
local requests, last = {}, 0
function init()
  for i = 0, 99 do requests[i] = wrk.format("GET", "/service-" .. i .. "/items/42") end
end
function request()
  last = (last + 1) % 100
  return requests[last]
end
