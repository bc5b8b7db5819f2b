package relief

import (
	"bytes"
	"testing"
)

// Whatever the kernel answers, a socket counts as dead only by a whole struct tcp_info.
func FuzzStateOf(f *testing.F) {
	f.Add(bytes.Repeat([]byte{1}, 60))
	f.Add([]byte{1, 0, 9, 9})
	f.Add(bytes.Repeat([]byte{0xff}, 240))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := stateOf(b)
		if err != nil && s != (state{}) {
			t.Errorf("% x: %+v beside %v", b, s, err)
		}
		if err == nil && s.quiet < 0 {
			t.Errorf("% x: quiet for %s", b, s.quiet)
		}
	})
}
