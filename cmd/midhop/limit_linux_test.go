package main

import "testing"

func TestMemoryLimitOfAGroup(t *testing.T) {
	files := map[string]string{
		"/memory/memory.limit_in_bytes":          "9223372036854771712\n",
		"/memory/pods/memory.limit_in_bytes":     "300000000\n",
		"/memory/pods/one/memory.limit_in_bytes": "9223372036854771712\n",
		"/memory.max":                            "max\n",
		"/kubepods/pod1/memory.max":              "200000000\n",
		"/kubepods/pod1/c/memory.max":            "max\n",
	}
	read := func(file string) (string, bool) { text, ok := files[file]; return text, ok }
	for _, c := range []struct {
		groups string
		want   int64
	}{
		{"5:cpu,cpuacct:/x\n4:memory:/pods/one\n0::/\n", 300000000}, // v1: the group above limits it
		{"0::/kubepods/pod1/c\n", 200000000},                        // v2
		{"0::/../pod9\n", 0},                                        // a container whose root is mounted in its place
		{"4:memory:/\n0::/\n", 0},
		{"nonsense", 0},
	} {
		got, ok := memoryLimit(c.groups, read)
		if got != c.want || ok != (c.want != 0) {
			t.Errorf("%q: %d, %t; want %d", c.groups, got, ok, c.want)
		}
	}
}
