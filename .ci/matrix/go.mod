module github.com/midhop/midhop/ci/matrix

go 1.26.0
