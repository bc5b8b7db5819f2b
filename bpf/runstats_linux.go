package bpf

import (
	"fmt"
	"io"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// CountRuns lets the kernel count the runs of every program of the machine and their time, until the result is closed.
// Each run then costs some 50 ns more, which is why nothing but measurements asks for it. It needs CAP_SYS_ADMIN.
func CountRuns() (io.Closer, error) {
	c, err := ebpf.EnableStats(uint32(unix.BPF_STATS_RUN_TIME))
	if err != nil {
		return nil, fmt.Errorf("let the kernel count program runs: %w", err)
	}
	return c, nil
}

// Runs returns how often the program of a kernel-wide id has run while runs were counted, and how long in all. Ids stand
// in /proc/PID/fdinfo as prog_id. It needs CAP_SYS_ADMIN.
func Runs(program uint32) (count uint64, took time.Duration, err error) {
	p, err := ebpf.NewProgramFromID(ebpf.ProgramID(program))
	if err != nil {
		return 0, 0, fmt.Errorf("program %d: %w", program, err)
	}
	defer p.Close()
	s, err := p.Stats()
	if err != nil {
		return 0, 0, fmt.Errorf("runs of program %d: %w", program, err)
	}
	return s.RunCount, s.Runtime, nil
}
