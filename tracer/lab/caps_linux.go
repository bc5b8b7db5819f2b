package lab

import (
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"
)

// agentCaps are the capabilities an agent runs with: to load and attach programs, to trace, to read conntrack.
var agentCaps = []int{unix.CAP_BPF, unix.CAP_PERFMON, unix.CAP_NET_ADMIN}

// dropCaps cuts the calling thread's bounding set down to keep. A program that the thread then starts as root gets
// exactly these (capabilities(7), "Transformation of capabilities during execve"); nothing can give it more.
func dropCaps(keep []int) error {
	for c := range 64 {
		if slices.Contains(keep, c) {
			continue
		}
		err := unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(c), 0, 0, 0)
		switch {
		case errors.Is(err, unix.EINVAL): // above the last capability that this kernel knows
			return nil
		case err != nil:
			return fmt.Errorf("drop capability %d: %w", c, err)
		}
	}
	return nil
}
