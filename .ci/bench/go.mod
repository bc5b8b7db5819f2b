module github.com/midhop/midhop/ci/bench

go 1.26.0
