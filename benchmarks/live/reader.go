package main

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"github.com/apache/arrow-go/v18/arrow/flight"
	flatbuffers "github.com/google/flatbuffers/go"
)

// counts are what a reader has been told since its snapshot; times are from sending to receiving, in milliseconds.
type counts struct {
	messages, rows, merged int64
	times                  []float64
	err                    error
}

// reader is one subscriber. Its counts may be read while it runs.
type reader struct {
	symbol int  // the one that it has asked for, -1: all
	timed  bool // whether the rows bear the time of their sending
	seen   func(received time.Time)
	mutex  sync.Mutex
	count  counts
}

func (r *reader) counted() counts {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	return r.count
}

// said is what app_metadata says of a message, as far as it matters here.
type said struct {
	Type   string `json:"type"`
	End    bool   `json:"end"`
	Rows   int64  `json:"rows"`
	Merged int64  `json:"merged"`
}

// run subscribes and counts until the context ends; ready is called once, after the snapshot or with why there is none.
func (r *reader) run(ctx context.Context, client flight.Client, command []byte, ready func(error)) {
	fail := func(err error) {
		if ready != nil {
			ready(err)
		}
		if ctx.Err() == nil {
			r.mutex.Lock()
			r.count.err = err
			r.mutex.Unlock()
		}
	}
	stream, err := client.DoExchange(ctx)
	if err == nil {
		descriptor := &flight.FlightDescriptor{Type: flight.DescriptorCMD, Cmd: command}
		err = stream.Send(&flight.FlightData{FlightDescriptor: descriptor})
	}
	for err == nil {
		var data *flight.FlightData
		if data, err = stream.Recv(); err != nil {
			break
		}
		received := time.Now()
		var what said
		if len(data.AppMetadata) > 0 {
			if err = json.Unmarshal(data.AppMetadata, &what); err != nil {
				break
			}
		}
		switch {
		case what.Type == "changes":
			err = r.take(data, what, received)
		case what.Type == "snapshot" && what.End && ready != nil:
			ready(nil)
			ready = nil
		}
	}
	fail(err)
}

func (r *reader) take(data *flight.FlightData, what said, received time.Time) error {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	r.count.messages++
	r.count.rows += what.Rows
	r.count.merged += what.Merged
	if r.timed {
		sent, err := oldest(data)
		if err != nil {
			return err
		}
		r.count.times = append(r.count.times, float64(received.UnixMicro()-sent)/1000)
	}
	if r.seen != nil {
		r.seen(received)
	}
	return nil
}

// Columns of market_data: symbol has three buffers, four numbers have two each; of timestamp the second holds values.
const timestampBuffer = 3 + 4*2 + 1

// oldest reads the smallest timestamp straight from the message, in microseconds; to decode every message would cost
// this program more than the server spends on it.
func oldest(data *flight.FlightData) (int64, error) {
	field := func(table *flatbuffers.Table, slot int) flatbuffers.UOffsetT {
		return flatbuffers.UOffsetT(table.Offset(flatbuffers.VOffsetT(slot)))
	}
	message := &flatbuffers.Table{Bytes: data.DataHeader, Pos: flatbuffers.GetUOffsetT(data.DataHeader)}
	batch := &flatbuffers.Table{}
	message.Union(batch, field(message, 8))
	rows := batch.GetInt64Slot(4, 0)
	start := batch.Vector(field(batch, 8)) + 16*timestampBuffer
	begin := flatbuffers.GetInt64(data.DataHeader[start:])
	found := int64(1) << 62
	for i := begin; i < begin+8*rows; i += 8 {
		found = min(found, int64(binary.LittleEndian.Uint64(data.DataBody[i:])))
	}
	if age := time.Since(time.UnixMicro(found)); age < -time.Minute || age > time.Hour {
		return 0, fmt.Errorf("a message's timestamp is %v old: not the columns of market_data", age)
	}
	return found, nil
}
