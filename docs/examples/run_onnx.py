"""A detector without dkp and PyTorch: python docs/examples/run_onnx.py MODEL.onnx CROP.png."""

import json
import sys

import cv2
import numpy as np
import onnxruntime

session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
said = json.loads(session.get_modelmeta().custom_metadata_map["dkp"])  # size, stride, surface, card
crop = cv2.imread(sys.argv[2])[..., ::-1]  # RGB, a square around the person with some room
crop = cv2.resize(crop, (said["size"], said["size"]), interpolation=cv2.INTER_AREA)
foreground, coordinate, *_ = session.run(None, {"images": crop[None]})  # (1, H, W) logits, (1, 3, H, W) m
inside = foreground[0] > 0
print(f"{inside.sum()} of {inside.size} cells show the {said['surface']}")
print("their mean place on the surface [m]:", np.round(coordinate[0][:, inside].mean(1), 3))
