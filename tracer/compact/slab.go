package compact

// chunk is how many rows are allocated at a time once a table has so many: a table that grows then moves none of them, and
// wastes at most one chunk.
const (
	chunkBits = 12
	chunk     = 1 << chunkBits
)

// Slab is a table whose rows keep their number while they live; number 0 is no row, and reads as a zero one.
type Slab[T any] struct {
	chunks [][]T
	end    uint32
	free   []uint32
}

// NewSlab returns an empty table.
func NewSlab[T any]() Slab[T] { return Slab[T]{chunks: [][]T{make([]T, 1)}, end: 1} }

// Add puts a row in and returns its number. Pointers from At before it are no longer valid.
func (s *Slab[T]) Add(v T) uint32 {
	if n := len(s.free); n > 0 {
		id := s.free[n-1]
		s.free = s.free[:n-1]
		*s.At(id) = v
		return id
	}
	id := s.end
	last := len(s.chunks) - 1
	if len(s.chunks[last]) == chunk {
		s.chunks = append(s.chunks, make([]T, 0, chunk))
		last++
	}
	s.chunks[last] = append(s.chunks[last], v)
	s.end++
	return id
}

// Drop empties a row; its number may be given to another.
func (s *Slab[T]) Drop(id uint32) {
	var none T
	*s.At(id) = none
	s.free = append(s.free, id)
}

// At returns a row, valid until the next Add.
func (s *Slab[T]) At(id uint32) *T { return &s.chunks[id>>chunkBits][id&(chunk-1)] }

// Len is how many rows there are.
func (s *Slab[T]) Len() int { return int(s.end) - 1 - len(s.free) }

// End is the first number that no row has had: rows have numbers from 1 up to it, and dropped ones are zero.
func (s *Slab[T]) End() uint32 { return s.end }
