// Package bpf is the kernel half of midhop: the probes in C, their loader, and the records that they tell. It must not
// know what a node, a pod or a user is, nor how records become events.
//
// [Load] tries, for every fact, the best way ("rung") to obtain it that the running kernel offers, and reports what it
// chose and why nothing better served. [Probes] then gives the census of sockets and the rings of records.
package bpf

// The objects are committed. They need clang 19 and libbpf's helper headers (Debian: clang-19 llvm-19 libbpf-dev
// linux-libc-dev) and come out byte for byte the same wherever the tree lies.

//go:generate -command object go tool bpf2go -cc clang-19 -strip llvm-strip-19 -target bpfel -tags linux -no-global-types -go-package bpf -cflags "-mcpu=v3 -Wall -Werror -idirafter /usr/include/x86_64-linux-gnu -idirafter /usr/include/aarch64-linux-gnu"
//go:generate object clock clock.bpf.c
//go:generate object tcp tcp.bpf.c -- -DTYPED=1
//go:generate object rawtcp tcp.bpf.c -- -DTYPED=0
//go:generate object probe probe.bpf.c
//go:generate object census census.bpf.c
//go:generate object troubled troubled.bpf.c
//go:generate object marks marks.bpf.c
//go:generate object nat nat.bpf.c
//go:generate object reset reset.bpf.c
//go:generate object kprobe kprobe.bpf.c
