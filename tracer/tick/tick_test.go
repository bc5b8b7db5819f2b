package tick

import (
	"testing"
	"testing/synctest"
	"time"
)

// TestNext: whoever rests for Next meets the others, however long each has worked.
func TestNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began = time.Now()
		at := func(every, work time.Duration) map[time.Duration]bool {
			met := map[time.Duration]bool{}
			for time.Since(began) < 3*time.Second {
				time.Sleep(Next(every))
				met[time.Since(began)] = true
				time.Sleep(work)
			}
			return met
		}
		halves := make(chan map[time.Duration]bool)
		go func() { halves <- at(500*time.Millisecond, 7*time.Millisecond) }()
		whole := at(time.Second, 300*time.Millisecond)
		half := <-halves
		if len(whole) != 3 || len(half) != 6 {
			t.Fatalf("%v, %v", whole, half)
		}
		for d := range whole {
			if !half[d] {
				t.Errorf("alone at %s", d)
			}
		}
	})
}
