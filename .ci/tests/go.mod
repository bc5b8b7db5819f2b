module github.com/midhop/midhop/ci/tests

go 1.26.0
