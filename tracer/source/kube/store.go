package kube

import (
	"context"

	"k8s.io/client-go/tools/cache"

	"github.com/midhop/midhop/tracer/event"
)

// store is what a reflector writes to. An informer's would keep every object; this one keeps what its keeper does.
type store struct {
	f   *follower
	ctx context.Context
}

var (
	_ cache.TransformingStore = (*store)(nil)
	_ cache.ReflectorStore    = (*store)(nil)
)

// Transformer implements cache.TransformingStore: the reflector's own store, in which watch-list gathers the first look,
// holds records too.
func (s *store) Transformer() cache.TransformFunc {
	return func(obj any) (any, error) {
		r := s.f.keep.read(obj)
		if r == nil {
			return nothing{}, nil
		}
		return r, nil
	}
}

// nothing stands for an object of no interest.
type nothing struct{}

func (s *store) record(obj any) any {
	if _, ok := obj.(nothing); ok {
		return nil
	}
	return s.f.keep.read(obj)
}

func (s *store) change(do func(b *batch)) {
	src := s.f.s
	src.mu.Lock()
	defer src.mu.Unlock()
	b := src.begin(s.ctx)
	do(b)
	s.f.keep.settle(b)
	b.send()
}

// Add implements cache.ReflectorStore.
func (s *store) Add(obj any) error { return s.Update(obj) }

// Update implements cache.ReflectorStore.
func (s *store) Update(obj any) error {
	s.change(func(b *batch) {
		if r := s.record(obj); r != nil {
			s.f.keep.put(b, s.f.keep.key(r), r)
		} else {
			s.f.keep.drop(b, s.f.keep.key(obj))
		}
	})
	return nil
}

// Delete implements cache.ReflectorStore.
func (s *store) Delete(obj any) error {
	s.change(func(b *batch) { s.f.keep.drop(b, s.f.keep.key(obj)) })
	return nil
}

// Replace implements cache.ReflectorStore: a complete look.
func (s *store) Replace(list []any, _ string) error {
	s.change(func(b *batch) {
		keep := s.f.keep
		there := make(map[any]struct{}, len(list))
		for i, obj := range list {
			list[i] = nil
			r := s.record(obj)
			if r == nil {
				continue
			}
			key := keep.key(r)
			there[key] = struct{}{}
			keep.put(b, key, r)
		}
		for _, key := range keep.keys() {
			if _, ok := there[key]; !ok {
				keep.drop(b, key)
			}
		}
		if s.f.optional {
			return
		}
		if s.f.resource == "nodes" {
			s.f.s.checkName()
		}
		news := s.f.s.health.works(s.f.resource, true, b.now)
		keep.settle(b)
		for _, synced := range news {
			b.add(event.StreamSynced, &synced)
		}
	})
	return nil
}

// Resync implements cache.ReflectorStore.
func (s *store) Resync() error { return nil }
