module github.com/midhop/midhop/ci/vm

go 1.26.0
