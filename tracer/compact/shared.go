package compact

// Shared gives equal values one number, counts who holds it, and forgets it with the last: what many rows have in common
// takes four bytes in each.
type Shared[T comparable] struct {
	rows Slab[held[T]]
	ids  map[T]uint32
}

type held[T comparable] struct {
	value T
	refs  uint32
}

// NewShared returns an empty table.
func NewShared[T comparable]() Shared[T] {
	return Shared[T]{rows: NewSlab[held[T]](), ids: make(map[T]uint32)}
}

// Hold returns the number of a value, never 0, and counts it; every Hold needs a Release.
func (s *Shared[T]) Hold(v T) uint32 {
	id, ok := s.ids[v]
	if !ok {
		id = s.rows.Add(held[T]{value: v})
		s.ids[v] = id
	}
	s.rows.At(id).refs++
	return id
}

// Release ends a Hold; of 0 it does nothing.
func (s *Shared[T]) Release(id uint32) {
	if id == 0 {
		return
	}
	h := s.rows.At(id)
	if h.refs--; h.refs == 0 {
		delete(s.ids, h.value)
		s.rows.Drop(id)
	}
}

// Swap releases one number and returns that of another value, held.
func (s *Shared[T]) Swap(id uint32, v T) uint32 {
	if id != 0 && s.rows.At(id).value == v {
		return id
	}
	next := s.Hold(v)
	s.Release(id)
	return next
}

// At returns the value of a number; of 0 the zero one.
func (s *Shared[T]) At(id uint32) *T { return &s.rows.At(id).value }

// Len is how many different values are held.
func (s *Shared[T]) Len() int { return s.rows.Len() }
