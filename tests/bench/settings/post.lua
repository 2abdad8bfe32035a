-- a form of 200 bytes
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/x-www-form-urlencoded"
wrk.body = string.rep("field=0123456789abc&", 10)
