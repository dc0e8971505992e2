-- For wrk: posts the JSON bodies of the file BODIES, one per line, in turns, and tells what came of it as one line of JSON.
local requests, sent = {}, 0

function init()
  wrk.method = "POST"
  wrk.headers["Content-Type"] = "application/json"
  for body in io.lines(os.getenv("BODIES")) do
    requests[#requests + 1] = wrk.format(nil, nil, nil, body)
  end
end

function request()
  sent = sent % #requests + 1
  return requests[sent]
end

function done(summary, latency)
  local errors = summary.errors
  local broken = errors.connect + errors.read + errors.write + errors.timeout
  io.write(string.format(
    '{"answered": %d, "failed": %d, "seconds": %f, "p50": %f, "p99": %f}\n',
    summary.requests - errors.status, errors.status + broken, summary.duration / 1e6,
    latency:percentile(50) / 1e3, latency:percentile(99) / 1e3))
end
