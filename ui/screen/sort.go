package screen

import (
	"runtime"
	"slices"
	"sync"

	"github.com/midhop/midhop/tracer/model"
)

// fewRows are sorted by one processor: to share them would take longer.
const fewRows = 10_000

// placed is a row with its place in an order.
type placed[R any] struct {
	rank model.Rank
	row  *R
	at   int32 // before
}

func (a placed[R]) compare(b placed[R]) int {
	if c := a.rank.Compare(b.rank); c != 0 {
		return c
	}
	return int(a.at) - int(b.at)
}

// sorted returns rows by their rank, those of one rank as they were. Somebody waits for it, so every processor takes a
// part: ranks are texts to be made, which is most of the work.
func sorted[R any](rows []*R, rank func(*R) model.Rank) []*R {
	places := make([]placed[R], len(rows))
	parts := runtime.GOMAXPROCS(0)
	if len(rows) < fewRows {
		parts = 1
	}
	var each sync.WaitGroup
	lists := make([][]placed[R], parts)
	for k := range parts {
		from, to := len(rows)*k/parts, len(rows)*(k+1)/parts
		lists[k] = places[from:to]
		each.Go(func() {
			for i := from; i < to; i++ {
				places[i] = placed[R]{rank(rows[i]), rows[i], int32(i)}
			}
			slices.SortFunc(lists[k], placed[R].compare)
		})
	}
	each.Wait()
	for i := range rows {
		least := -1
		for k, list := range lists {
			if len(list) > 0 && (least < 0 || list[0].compare(lists[least][0]) < 0) {
				least = k
			}
		}
		rows[i], lists[least] = lists[least][0].row, lists[least][1:]
	}
	return rows
}
