package push_test

import (
	"testing"

	"github.com/sealmesh/sealmesh/internal/push"
)

func TestASlowReaderFindsOnlyTheNewest(t *testing.T) {
	h := push.NewHub()
	view, changed := h.Load()
	if view != nil {
		t.Fatal("a new hub holds a view")
	}
	var last *push.View
	for range 1000 { // nobody reads, nothing is queued
		last = &push.View{}
		h.Publish(last)
	}
	<-changed
	view, changed = h.Load()
	if view != last {
		t.Error("the reader did not find the newest view")
	}
	select {
	case <-changed:
		t.Error("woken though there is nothing newer")
	default:
	}
}
